#![no_main]

leadgate_fuzz::program!("token_claims");
