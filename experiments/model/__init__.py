"""Trained models: accuracy, abstention, agreement of their forms, and what training needs."""
