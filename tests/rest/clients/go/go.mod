module leadgate.example/rest-clients

go 1.25
