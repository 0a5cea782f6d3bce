#![no_main]

leadgate_fuzz::program!("listing_token");
