#![no_main]

leadgate_fuzz::program!("value_text");
