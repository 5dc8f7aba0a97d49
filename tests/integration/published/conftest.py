"""What is here is imported as the packages of other people are, not collected."""

collect_ignore = ["acoupi_nightjar"]
