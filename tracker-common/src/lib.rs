//! The brain of tracker.
#![no_std]
