package localca

import (
	"errors"
	"net"

	"github.com/miekg/dns"
)

// resolver is a name server on loopback that says of every name that it is
// 127.0.0.1 and nothing else. Pebble asks over TCP only.
type resolver struct {
	server *dns.Server
	addr   string
	served chan struct{}
}

func startResolver() (*resolver, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	started := make(chan struct{})
	r := &resolver{addr: listener.Addr().String(), served: make(chan struct{})}
	r.server = &dns.Server{
		Listener:          listener,
		Handler:           dns.HandlerFunc(answer),
		NotifyStartedFunc: func() { close(started) },
	}
	go func() {
		defer close(r.served)
		_ = r.server.ActivateAndServe() // ends at Shutdown
	}()
	select {
	case <-started: // Shutdown refuses a server that has not started
		return r, nil
	case <-r.served:
		return nil, errors.Join(errors.New("the resolver did not start"), listener.Close())
	}
}

func answer(w dns.ResponseWriter, question *dns.Msg) {
	reply := new(dns.Msg)
	reply.SetReply(question)
	for _, q := range question.Question {
		if q.Qtype == dns.TypeA {
			reply.Answer = append(reply.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
				A:   net.IPv4(127, 0, 0, 1),
			})
		}
	}
	_ = w.WriteMsg(reply) // a client that went away gets no answer
}

func (r *resolver) close() error {
	err := r.server.Shutdown()
	<-r.served
	return err
}
