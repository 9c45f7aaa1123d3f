package md

// DefaultStore is the Store that m means.
func DefaultStore(m *Manager) (Store, error) { return m.store() }
