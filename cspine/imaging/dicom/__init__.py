"""DICOM CT slices: elements, attributes, pixels, window, orientation."""
