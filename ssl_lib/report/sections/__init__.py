"""The parts of the page, each from runs to markup."""
