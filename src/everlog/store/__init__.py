"""What append and read mean, whatever the database: moves bytes, never domain classes."""
