//! The running program as a library; knows no vendor.
