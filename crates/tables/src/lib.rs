//! Tables as bytes: Arrow IPC, Parquet, CSV and JSON to record batches, and back.
//!
//! This crate knows no Python and no processes. What it reads comes from outside and may be hostile.
#![forbid(unsafe_code)]
