package store

// Watchers returns how many watchers m serves.
func (m *Memory) Watchers() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.watchers)
}
