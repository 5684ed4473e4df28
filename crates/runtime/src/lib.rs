//! exuvia-runtime
