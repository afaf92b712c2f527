//! RSTs that end a connection at both of its ends.
