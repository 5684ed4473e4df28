//! exuvia-observe
