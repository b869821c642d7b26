"""One backbone a file; a backbone returns a feature map."""
