#![no_main]

leadgate_fuzz::program!("request_metadata");
