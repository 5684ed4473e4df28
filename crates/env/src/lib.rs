//! exuvia-env
