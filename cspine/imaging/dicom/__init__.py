"""Reader of DICOM CT slices: elements, attributes, pixels, window and orientation."""
