package acmeclient

import "testing"

// BenchmarkResolve is what each Domain of a Manager costs when it starts.
func BenchmarkResolve(b *testing.B) {
	for name, ca := range map[string]CA{"nothing": {}, "a name": {Name: "google", EAB: anEAB()}, "a known URL": {URL: letsEncryptStagingURL}, "another URL": {URL: "https://ca.example/dir"}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ca.Resolve(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAllowed(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = CA{}.Allowed()
	}
}

func BenchmarkKeyTypeOf(b *testing.B) {
	key := testKey(b, P256)
	b.ReportAllocs()
	for b.Loop() {
		_ = KeyTypeOf(key.Public())
	}
}
