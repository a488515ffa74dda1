"""What is different in the runs of `segctl drill`: they obey `orders`, and are compared by `differences`."""
