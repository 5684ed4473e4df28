//! exuvia-cli
