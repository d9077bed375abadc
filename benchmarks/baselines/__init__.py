"""The same study as a competent user would run it today: HF `Trainer` and stock PEFT, in two ways."""
