//! exuvia-native
