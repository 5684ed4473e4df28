//! exuvia-sys
