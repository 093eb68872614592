"""Programs for the maintainers of this project, run by `make`; the wheel has none of them."""
