"""The daemon for true: real sockets on loopback, a scripted device behind them."""
