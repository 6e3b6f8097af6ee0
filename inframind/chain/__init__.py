"""The chain, as far as the registry reads it. Nothing else imports web3."""
