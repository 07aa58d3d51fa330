"""What tests of several folders share: drawn pictures, hostile files, servers and fakes."""
