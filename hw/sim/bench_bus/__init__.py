"""How close the line master comes to what the wire allows, and what it costs beside other clients."""
