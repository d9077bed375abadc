"""The tasks that are built in, a module each: its TASK says where its rows come from and who reads them."""
