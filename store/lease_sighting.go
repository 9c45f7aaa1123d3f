package store

import "time"

// maxSightings bounds what a Leaser remembers of keys that it never comes
// back to. To forget one only delays a takeover.
const maxSightings = 1 << 14

// sighting is what a Leaser remembers of a key that it does not hold.
type sighting struct {
	version Version
	since   time.Time // when version was first seen; its monotonic part counts
	// disowned is the ID of a claim of this Leaser that it could not make
	// sure of. Nobody acts under it, so that it need not be waited for.
	disowned string
}

// sighted notes that key has been seen at that version, and returns how long
// it must stay the same to be taken over: not above zero means now.
func (l *Leaser) sighted(key string, version Version, c claim) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sightings[key]
	if s.disowned != "" && s.disowned == c.ID {
		return 0
	}
	if s.version != version {
		s.version, s.since = version, time.Now()
		l.remember(key, s)
	}
	return max(l.ttl(), c.ttl()) - time.Since(s.since)
}

// disown notes that this Leaser will not act under the claim of that id.
func (l *Leaser) disown(key, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sightings[key]
	s.disowned = id
	l.remember(key, s)
}

// forget drops what is known of a key that this Leaser has acquired.
func (l *Leaser) forget(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sightings, key)
}

// remember is called with l.mu held.
func (l *Leaser) remember(key string, s sighting) {
	if l.sightings == nil {
		l.sightings = make(map[string]sighting)
	}
	if _, ok := l.sightings[key]; !ok && len(l.sightings) >= maxSightings {
		for other := range l.sightings {
			delete(l.sightings, other) // any will do
			break
		}
	}
	l.sightings[key] = s
}
