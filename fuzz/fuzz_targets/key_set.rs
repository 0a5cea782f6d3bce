#![no_main]

leadgate_fuzz::program!("key_set");
