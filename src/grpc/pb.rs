//! The public contract, as generated from `proto/`.

#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("leadgate.v1");

/// The encoded descriptors of the public contract, for reflection.
pub(super) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
