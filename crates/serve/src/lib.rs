//! exuvia-serve
