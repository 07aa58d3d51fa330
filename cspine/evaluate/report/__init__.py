"""The report page: figures, tables, checklist."""
