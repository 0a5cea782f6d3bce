//! A part of the binary's module `cli`, under the same paths: what reads the file of an import.

#![allow(dead_code, reason = "the import and the export use more of these modules")]

pub(crate) mod transfer;
