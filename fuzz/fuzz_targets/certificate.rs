#![no_main]

leadgate_fuzz::program!("certificate");
