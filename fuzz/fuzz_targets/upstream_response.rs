#![no_main]

leadgate_fuzz::program!("upstream_response");
