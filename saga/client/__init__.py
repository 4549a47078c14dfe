"""Client: how sagas are started, waited for and acted on."""
