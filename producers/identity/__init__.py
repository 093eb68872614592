"""Assignment of lines to devices, by identity tables and learnt addresses."""
