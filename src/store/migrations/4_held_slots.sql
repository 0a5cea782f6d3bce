-- When each slot of an account that was held at an orderly end is free, as JSON (`domain::spent::HeldSlots`); null after any
-- other end.
ALTER TABLE spent ADD COLUMN slots TEXT;
