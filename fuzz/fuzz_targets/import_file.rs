#![no_main]

leadgate_fuzz::program!("import_file");
