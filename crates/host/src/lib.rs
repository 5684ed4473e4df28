//! exuvia-host
