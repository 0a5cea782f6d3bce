#![no_main]

leadgate_fuzz::program!("page_token");
