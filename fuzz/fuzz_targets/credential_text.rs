#![no_main]

leadgate_fuzz::program!("credential_text");
