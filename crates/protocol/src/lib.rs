//! exuvia-protocol
