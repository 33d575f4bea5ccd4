"""The station as an OPC UA server on the Machine Vision companion model. A process of its own, like any subscriber."""
