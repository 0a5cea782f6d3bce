package leadgate

import "time"

// KeepaliveInterval is the interval of PINGs.
var KeepaliveInterval = defaultKeepalive.Time

// WithKeepaliveInterval changes the interval of PINGs.
func WithKeepaliveInterval(interval time.Duration) Option {
	return option(func(c *config) { c.keepalive.Time = interval })
}
