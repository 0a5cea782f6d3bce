#![no_main]

leadgate_fuzz::program!("lead_fields");
