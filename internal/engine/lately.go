package engine

// lately remembers the keys that were put or found last: at least most of
// them, at most twice as many. It takes no time to keep it small, and those
// who flood it only make it forget. The zero value is empty; it is for one
// goroutine at a time.
type lately[K comparable, V any] struct {
	recent, former map[K]V
}

const latelyMost = 8192

func (l *lately[K, V]) get(key K) (V, bool) {
	if v, ok := l.recent[key]; ok {
		return v, true
	}
	v, ok := l.former[key]
	if ok {
		l.put(key, v)
	}
	return v, ok
}

func (l *lately[K, V]) put(key K, v V) {
	if l.recent == nil || len(l.recent) >= latelyMost {
		l.former, l.recent = l.recent, make(map[K]V)
	}
	l.recent[key] = v
}
