//! exuvia-python
