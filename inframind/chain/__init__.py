"""The chain: what is read from it and sent to it. Nothing else imports web3."""
