"""What stands on a backbone: embeddings, class scores, and their names in the published weights."""
